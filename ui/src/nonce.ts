/** The word by which the page's Content-Security-Policy knows the style elements that the page makes itself. */
export function nonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="nonce"]')?.content ?? "";
}
