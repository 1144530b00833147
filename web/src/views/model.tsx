import { View } from '../ui/view';

export default function Model(_: { params: Record<string, string> }) {
  return <View title="Model"><p>…</p></View>;
}
