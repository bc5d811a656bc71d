/**
 * xterm under a Content-Security-Policy without `unsafe-inline`: its style elements carry the page's nonce, and the
 * colours of its characters, which it writes as `style` attributes, are set by script. It makes some of its elements with
 * the document itself, whatever `documentOverride` says, and at any time: so the document makes them as they have to be.
 */
import { nonce } from "../nonce";

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === "style") {
    this.style.cssText = value;
  } else {
    Element.prototype.setAttribute.call(this, name, value);
  }
}

function make(this: Document, tag: string, options?: ElementCreationOptions): HTMLElement {
  const element = Document.prototype.createElement.call(this, tag, options);
  if (tag === "style") {
    element.nonce = nonce();
  } else if (tag === "span") {
    element.setAttribute = setAttribute;
  }
  return element;
}

/** Has to be called before the first terminal is made. */
export function allowStyles(): void {
  document.createElement = make as typeof document.createElement;
}
