// acts.mjs — what a person does on the page, by the names that a screen reader hears. Knows no class names but those that
// say the state of a message.
import { until } from './browser.mjs';

export const field = (page) => page.getByRole('textbox', { name: 'Message', exact: true });
export const answers = (page) => page.locator('article.msg.assistant');
export const mine = (page) => page.locator('article.msg.user');
export const newest = (page) => answers(page).last();
/** What a message says, without what is told of its progress. */
export const textOf = async (message) => (await message.locator('.msg-body .md').allInnerTexts()).join(' ').replace(/\s+/g, ' ').trim();
export const chatId = (page) => /\/(?:c|notebook)\/([0-9a-f]{24})/.exec(page.url())?.[1] ?? null;

export async function type(page, text) {
  await field(page).fill(text);
}

/** Types and sends; returns when the answer is there, be it still growing. */
export async function say(page, text) {
  // by its id: of a long chat only what is near the view is in the document
  const last = async () => ((await answers(page).count()) ? newest(page).getAttribute('data-id') : null);
  const before = await last();
  await type(page, text);
  await field(page).press('Enter');
  await until('an answer begins', async () => chatId(page) && ![before, null].includes(await last()));
}

export async function ended(page, ms = 60000) {
  let status;
  await until('the answer ends', async () => ['done', 'stopped', 'interrupted', 'error'].includes((status = await newest(page).getAttribute('data-status'))), ms);
  return status;
}

/** The answer has some text and is still being written. */
export async function writing(page, least = 20) {
  await until('text of the answer', async () => (await textOf(newest(page))).length > least);
}

/** Stops the answer if it is still being written. */
export async function stopped(page) {
  const stop = page.locator('form.composer').getByRole('button', { name: 'Stop' });
  if (await stop.isVisible()) await stop.click({ timeout: 2000 }).catch(() => {});
  return ended(page);
}

/** Answers of this chat are so long that something can happen meanwhile. */
export async function longAnswers(page, server, tokens = 400, message = 'Once upon a time there was') {
  const chat = await server.call('POST', '/page/v1/chats', { settings: { max_tokens: tokens, ignore_eos: true, temperature: 0.8, seed: 7 } });
  await page.goTo(`/c/${chat.id}`);
  await say(page, message);
  return chat.id;
}

export async function menu(page, within, item, name = 'More actions for this message') {
  await within.getByRole('button', { name }).click();
  await page.getByRole('menuitem', { name: item, exact: true }).click();
}
