/**
 * The document as xterm may use it under a Content-Security-Policy without `unsafe-inline`: its style elements carry the
 * page's nonce, and the colours that it writes as `style` attributes, which the policy forbids, are set by script.
 */
import { nonce } from "../nonce";

function make(this: Document, tag: string, options?: ElementCreationOptions): HTMLElement {
  const element = Document.prototype.createElement.call(document, tag, options);
  if (tag === "style") {
    element.nonce = nonce();
  } else if (tag === "span") {
    element.setAttribute = (name: string, value: string) => {
      if (name === "style") {
        element.style.cssText = value;
      } else {
        Element.prototype.setAttribute.call(element, name, value);
      }
    };
  }
  return element;
}

/** For xterm's option `documentOverride`. */
export const xtermDocument: Document = new Proxy(document, {
  get(target, key) {
    if (key === "createElement") {
      return make;
    }
    const value: unknown = Reflect.get(target, key, target);
    return typeof value === "function" ? value.bind(target) : value;
  },
});

/** Do what makes elements with the document itself, whatever it was told to use: xterm's scrollbar. */
export function withNonce(work: () => void): void {
  document.createElement = make as typeof document.createElement;
  try {
    work();
  } finally {
    Reflect.deleteProperty(document, "createElement");
  }
}
