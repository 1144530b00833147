import { View } from '../ui/view';

export default function Dashboard(_: { params: Record<string, string> }) {
  return <View title="Dashboard"><p>…</p></View>;
}
