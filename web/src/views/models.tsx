import { View } from '../ui/view';

export default function Models(_: { params: Record<string, string> }) {
  return <View title="Models"><p>…</p></View>;
}
