// How the page is built: names with hashes, one chunk for each thing that is not needed at once, KaTeX with woff2 fonts only.
import { defineConfig, type Plugin } from 'vite';

// KaTeX names each font thrice; every browser that runs this page reads woff2.
const woff2Only: Plugin = {
  name: 'woff2-only',
  enforce: 'pre',
  transform(code, id) {
    if (!id.includes('katex') || !id.split('?')[0]!.endsWith('.css')) return null;
    return { code: code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\(["'](?:woff|truetype)["']\)/g, ''), map: null };
  },
};

export default defineConfig({
  plugins: [woff2Only],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  server: { proxy: { '/page/v1': 'http://127.0.0.1:8080', '/v1': 'http://127.0.0.1:8080' } },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: true,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        entryFileNames: 'assets/[name]-[hash].js',
        chunkFileNames: 'assets/[name]-[hash].js',
        assetFileNames: 'assets/[name]-[hash][extname]',
        manualChunks(id) {
          if (id.includes('node_modules/katex')) return 'katex';
          if (id.includes('node_modules/uplot')) return 'uplot';
          if (id.includes('node_modules/highlight.js')) return 'highlight';
          if (/node_modules\/(markdown-it|dompurify|mdurl|uc\.micro|linkify-it|entities|punycode)/.test(id)) return 'markdown';
          if (/node_modules\/(preact|@preact)/.test(id)) return 'preact';
          return undefined;
        },
      },
    },
  },
  test: { environment: 'jsdom', include: ['tests/**/*.test.{ts,tsx}'] },
} as Parameters<typeof defineConfig>[0]);
