// The list under ?, and what is where.
import { t, type Key } from '../i18n';
import { shown } from '../lib/keys';
import { View } from '../ui/view';

// The keys of each view, whichever is open: kept together with what the views bind (a test compares).
export const groups: [Key, [string, Key][]][] = [
  ['nav.views', [['?', 'key.help'], ['mod+k', 'key.search'], ['mod+shift+O', 'key.new'], ['mod+b', 'key.sidebar'], ['mod+,', 'key.settings'], ['escape', 'key.close']]],
  ['nav.chat', [['enter', 'key.send'], ['shift+enter', 'key.newline'], ['/', 'key.focus'], ['escape', 'key.stop'], ['r', 'key.regenerate'], ['g', 'key.continue'], ['e', 'key.edit'], ['c', 'key.copy'],
    ['k', 'key.prev'], ['j', 'key.next'], ['[', 'key.older'], [']', 'key.newer'], ['t', 'key.tree'], ['s', 'key.chatsettings']]],
  ['nav.notebook', [['mod+enter', 'key.complete'], ['escape', 'key.stop']]],
];

export default function Help() {
  return (
    <View title={t('help.title')} lead={t('help.lead')}>
      <div class="help-grid">
        {groups.map(([name, list]) => (
          <section class="card" key={name}><h2>{t(name)}</h2>
            <dl class="keys">{list.map(([k, what]) => <div key={k + what}><dt>{shown(k).split('+').map((x, i) => <kbd key={i}>{x || '+'}</kbd>)}</dt><dd>{t(what)}</dd></div>)}</dl></section>
        ))}
      </div>
      <section class="card prose"><h2>{t('help.what')}</h2>
        {(['help.chat', 'help.tree', 'help.notebook', 'help.files', 'help.private'] as Key[]).map((k) => <p key={k}>{t(k)}</p>)}</section>
    </View>
  );
}
