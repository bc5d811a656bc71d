/** Finding things by their words. */

export interface Findable {
  readonly label: string;
  /** Other words that it is found by. */
  readonly words?: string;
}

export function wordsOf(query: string): string[] {
  return query.toLowerCase().split(/\s+/).filter(Boolean);
}

/** How well a text answers the words: 0 not at all; a word's whole beats its beginning, which beats its middle. */
export function rank(text: string, words: readonly string[]): number {
  const lower = text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    const at = lower.indexOf(word);
    if (at < 0) {
      return 0;
    }
    const begins = at === 0 || !/[a-z0-9]/.test(lower[at - 1] ?? "");
    const ends = !/[a-z0-9]/.test(lower[at + word.length] ?? "");
    sum += begins && ends ? 4 : begins ? 2 : 1;
  }
  return sum + 1 / (1 + lower.length);
}

/** At most `limit` of the things, the best first; the order of equals stays. */
export function find<Thing extends Findable>(things: readonly Thing[], query: string, limit: number): Thing[] {
  const words = wordsOf(query);
  if (words.length === 0) {
    return things.slice(0, limit);
  }
  const ranked: [number, Thing][] = [];
  for (const thing of things) {
    const found = rank(thing.words === undefined ? thing.label : `${thing.label} ${thing.words}`, words);
    if (found > 0) {
      ranked.push([found, thing]);
    }
  }
  return ranked
    .sort(([a], [b]) => b - a)
    .slice(0, limit)
    .map(([, thing]) => thing);
}
