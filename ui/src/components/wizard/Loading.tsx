import { Loader } from "@mantine/core";
import { Refusal } from "../Asked";
import { PageFrame } from "../PageFrame";

/** A page whose form waits for what it is made of. */
export function Loading({ title, error }: { title: string; error: Error | null }) {
  return (
    <PageFrame title={title}>{error === null ? <Loader aria-label="Loading" /> : <Refusal error={error} />}</PageFrame>
  );
}
