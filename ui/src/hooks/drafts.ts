/** What was typed and is not sent yet: kept for its writer in this window, also when the page is loaded anew. */
import { useState } from "react";
import { useUser } from "./session";

export function useDraft(name: string, initial: string): [string, (text: string) => void] {
  const key = `draft of ${useUser()}: ${name}`;
  const [text, setText] = useState(() => sessionStorage.getItem(key) ?? initial);
  return [
    text,
    (now) => {
      setText(now);
      sessionStorage.setItem(key, now);
    },
  ];
}
