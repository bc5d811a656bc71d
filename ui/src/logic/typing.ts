/** Text as keys of a US keyboard, for a screen that knows keys and no text. */

export interface Key {
  readonly keysym: number;
  /** The key's place on the keyboard, as `KeyboardEvent.code` names it; a character beyond the keyboard has none. */
  readonly code?: string;
  readonly shift: boolean;
}

const PLAIN = "`1234567890-=[]\\;',./";
const SHIFTED = '~!@#$%^&*()_+{}|:"<>?';
const CODES = [
  "Backquote",
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 0].map((digit) => `Digit${digit}`),
  "Minus",
  "Equal",
  "BracketLeft",
  "BracketRight",
  "Backslash",
  "Semicolon",
  "Quote",
  "Comma",
  "Period",
  "Slash",
];
const NAMED: Readonly<Record<string, readonly [number, string]>> = {
  "\n": [0xff0d, "Enter"],
  "\t": [0xff09, "Tab"],
  "\b": [0xff08, "Backspace"],
  " ": [0x20, "Space"],
};

/** The keysym of a character: Latin-1 has its own numbers, all else Unicode's (X11, appendix A). */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  return point < 0x100 ? point : 0x01000000 + point;
}

function keyOf(character: string): Key {
  const named = NAMED[character];
  if (named !== undefined) {
    return { keysym: named[0], code: named[1], shift: false };
  }
  const keysym = keysymOf(character);
  if (/^[a-z]$/i.test(character)) {
    return { keysym, code: `Key${character.toUpperCase()}`, shift: character !== character.toLowerCase() };
  }
  const shift = SHIFTED.includes(character);
  const code = CODES[(shift ? SHIFTED : PLAIN).indexOf(character)];
  return code === undefined ? { keysym, shift: false } : { keysym, code, shift };
}

/** The keys of a text, in order. */
export function keysFor(text: string): Key[] {
  return Array.from(text.replace(/\r\n?/g, "\n"), keyOf);
}
