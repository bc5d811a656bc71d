/** Where text of a guest's or a user's may lead to: the web and mail, and nothing that would run here. */

const ALLOWED = /^(https?:\/\/|mailto:)/i;

/** The address when it may be followed; else none, and the text stands as it is. */
export function safeLink(address: string): string | undefined {
  // Browsers leave out what they do not print: `java\nscript:` would be one word to them.
  return [...address].every((character) => character > " ") && ALLOWED.test(address) ? address : undefined;
}
