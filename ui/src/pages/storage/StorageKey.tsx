/** The key of a storage's backups, to be kept where the host is not. */
import { Button, Modal, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { told } from "../../api/errors";
import { Copied } from "../../components/CopyAs";
import { askKey } from "../../hooks/storage";

export function StorageKey({ storage }: { storage: string }) {
  const [shown, setShown] = useState<{ key?: string; failure?: string }>();
  const show = async () => {
    try {
      setShown({ key: await askKey(storage) });
    } catch (error) {
      setShown({ failure: told(error) });
    }
  };
  return (
    <>
      <Button variant="default" onClick={() => void show()}>
        Show key
      </Button>
      <Modal opened={shown !== undefined} onClose={() => setShown(undefined)} title={`Key of ${storage}`} size="lg">
        <Stack>
          {shown?.failure !== undefined && <Text role="alert">{shown.failure}</Text>}
          {shown?.key !== undefined && (
            <>
              <Text>It is of use with its passphrase alone. Keep both where this host is not.</Text>
              <Copied label="Key" text={shown.key} />
            </>
          )}
        </Stack>
      </Modal>
    </>
  );
}
