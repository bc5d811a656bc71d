/** The image servers that names are looked up on. */
import { Button, Group, Modal, Stack, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { SchemaForm } from "../../components/SchemaForm";
import { WideTable } from "../../components/WideTable";
import { useImageServers } from "../../hooks/images";
import { removeServer, setServer } from "../../logic/images";

export function ImageServers() {
  const servers = useImageServers();
  const [adding, { open, close }] = useDisclosure();
  return (
    <Stack component="section" gap="sm">
      <Group justify="space-between">
        <Title order={2} size="h4">
          Image servers
        </Title>
        <Button variant="default" onClick={open}>
          Add image server
        </Button>
      </Group>
      <Asked query={servers}>
        {(rows) =>
          rows.length === 0 ? (
            <Text>None is configured. Whoever adds one lets this host ask it for its list of images.</Text>
          ) : (
            <WideTable label="Image servers" head={["Server", "URL", "Remove"]}>
              {rows.map(({ server, url }) => (
                <Table.Tr key={server}>
                  <Table.Td>{server}</Table.Td>
                  <Table.Td className="wrapped">{url}</Table.Td>
                  <Table.Td>
                    <ActionButton action={removeServer(server)} size="compact-sm">
                      Remove
                    </ActionButton>
                  </Table.Td>
                </Table.Tr>
              ))}
            </WideTable>
          )
        }
      </Asked>
      <Modal opened={adding} onClose={close} title="Add image server">
        <SchemaForm
          operation={{ method: "PUT", path: "/bastide/image-servers/{server}" }}
          fields={[
            { name: "server", label: "Name", required: true, help: "Small letters, digits and -" },
            { name: "url", label: "URL", help: "What streams/v1/index.json is below" },
          ]}
          action={(values) => setServer(values.server ?? "", values.url ?? "")}
          submit="Add"
          onCancel={close}
          onDone={close}
        />
      </Modal>
    </Stack>
  );
}
