/** The dialog of a user's second factors; what is in it is loaded when it is first opened. */
import { Loader } from "@mantine/core";
import { lazy, Suspense } from "react";
import { FocusedModal } from "../FocusedModal";

const Factors = lazy(() => import("./Factors"));

interface Props {
  userid: string;
  own?: boolean;
  opened: boolean;
  onClose: () => void;
}

export function FactorsDialog({ userid, own = false, opened, onClose }: Props) {
  const title = own ? "Your second factors" : `Second factors of ${userid}`;
  return (
    <FocusedModal opened={opened} onClose={onClose} title={title} size="xl">
      <Suspense fallback={<Loader aria-label="Loading" />}>
        <Factors userid={userid} />
      </Suspense>
    </FocusedModal>
  );
}
