// Small things this browser remembers. Storage may be full or forbidden: then they last as long as the tab.
const beside = new Map<string, string>();

export function recall(key: string): string | null {
  try { return localStorage.getItem('zamba.' + key) ?? beside.get(key) ?? null; } catch { return beside.get(key) ?? null; }
}

export function remember(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem('zamba.' + key);
    else localStorage.setItem('zamba.' + key, value);
    beside.delete(key);
  } catch {
    if (value === null) beside.delete(key);
    else beside.set(key, value);
  }
}
