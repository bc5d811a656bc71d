/** Where the makers of a service say how it is installed: a link, where it is one that may be followed. */
import { Anchor, Text } from "@mantine/core";
import { webAddress } from "../../logic/service";

export function Upstream({ address }: { address: string }) {
  const link = webAddress(address);
  return (
    <Text size="sm">
      How its makers install it:{" "}
      {link === undefined ? (
        address
      ) : (
        <Anchor href={link} target="_blank" rel="noopener noreferrer" className="wrapped">
          {link}
        </Anchor>
      )}
    </Text>
  );
}
