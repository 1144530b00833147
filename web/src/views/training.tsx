import { View } from '../ui/view';

export default function Training(_: { params: Record<string, string> }) {
  return <View title="Training"><p>…</p></View>;
}
