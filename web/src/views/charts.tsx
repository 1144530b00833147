import { View } from '../ui/view';

export default function Charts(_: { params: Record<string, string> }) {
  return <View title="Charts"><p>…</p></View>;
}
