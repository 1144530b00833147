// Where the page begins.
import { render } from 'preact';
import './ui/base.css';
import './chat/chat.css';
import { App } from './app';
import { startLanguage } from './i18n';
import { startKeys } from './lib/keys';
import { startRouter } from './lib/router';
import { startTheme } from './lib/theme';
import { startStore } from './store/store';

startTheme();
startRouter();
startKeys();
void startLanguage().then(() => {
  render(<App />, document.getElementById('app')!);
  startStore();
});
