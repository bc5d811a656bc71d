/** What was typed and is not sent yet, kept while other pages are looked at; gone with the page itself. */
import { useState } from "react";

const drafts = new Map<string, string>();

export function useDraft(name: string, initial: string): [string, (text: string) => void] {
  const [text, setText] = useState(() => drafts.get(name) ?? initial);
  return [
    text,
    (now) => {
      drafts.set(name, now);
      setText(now);
    },
  ];
}
