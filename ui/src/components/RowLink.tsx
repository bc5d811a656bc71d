/** A link for rows of which many are made while one scrolls: it knows nothing of where the page is. */
import { useRouter } from "@tanstack/react-router";
import type { AnchorHTMLAttributes, MouseEvent } from "react";

interface Props extends Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href"> {
  to: string;
}

export function RowLink({ to, onClick, ...rest }: Props) {
  const router = useRouter();
  function go(event: MouseEvent<HTMLAnchorElement>): void {
    onClick?.(event);
    if (event.defaultPrevented) {
      return;
    }
    if (event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)) {
      event.preventDefault();
      router.history.push(to);
    }
  }
  return <a {...rest} href={to} onClick={go} />;
}
