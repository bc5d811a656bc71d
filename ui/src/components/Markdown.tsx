/** Markdown of guests and users: made of elements, without HTML, pictures or links but to the web. Loaded lazily. */
import { Anchor, Code, Text, Typography } from "@mantine/core";
import type { ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import { safeLink } from "../logic/links";

/** The page's own headings stand above. */
const heading = ({ children }: { children?: ReactNode }) => (
  <Text component="h3" size="md" fw={700} mt="md" mb="xs">
    {children}
  </Text>
);

function OutLink({ href, children }: { href?: string | undefined; children?: ReactNode }) {
  const to = href === undefined ? undefined : safeLink(href);
  if (to === undefined) {
    return <>{children}</>;
  }
  return (
    <Anchor href={to} target="_blank" rel="noopener noreferrer" underline="always" style={{ overflowWrap: "anywhere" }}>
      {children}
    </Anchor>
  );
}

const COMPONENTS: Components = {
  h1: heading,
  h2: heading,
  h3: heading,
  h4: heading,
  h5: heading,
  h6: heading,
  a: ({ href, children }) => <OutLink href={href}>{children}</OutLink>,
  // A picture elsewhere would tell its host who looks here.
  img: ({ src, alt }) => <OutLink href={typeof src === "string" ? src : undefined}>{alt || "picture"}</OutLink>,
  pre: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre tabIndex={0} style={{ overflowX: "auto" }}>
      {children}
    </pre>
  ),
  code: ({ children }) => <Code>{children}</Code>,
};

export function Markdown({ text }: { text: string }) {
  return (
    <Typography style={{ overflowWrap: "anywhere" }}>
      <ReactMarkdown components={COMPONENTS} urlTransform={(address) => safeLink(address) ?? ""}>
        {text}
      </ReactMarkdown>
    </Typography>
  );
}
