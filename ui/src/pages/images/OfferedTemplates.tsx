/** The templates that can be had: those that image servers list, asked when one looks here. */
import { Group, Stack, Table, Text, TextInput, Title } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useImageStorage } from "../../components/wizard/useHost";
import { useDaemon } from "../../hooks/creating";
import { useTemplates } from "../../hooks/images";
import { path } from "../../logic/actions";
import { StorageChoice } from "./StorageChoice";

const SHOWN = 100;

export function OfferedTemplates() {
  const node = useDaemon().data?.node;
  const templates = useTemplates(node);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState("");
  const usual = useImageStorage("lxc");
  const storage = chosen === "" ? usual : chosen;
  const words = text.toLowerCase();
  return (
    <Stack component="section" gap="sm">
      <Title order={2} size="h4">
        Templates that can be had
      </Title>
      <Group align="flex-end">
        <StorageChoice kind="lxc" value={storage} onChange={setChosen} />
        <TextInput
          label="Search"
          leftSection={<IconSearch size={16} aria-hidden />}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
        />
      </Group>
      <Asked query={templates}>
        {(rows) => {
          const fit = rows.filter((row) => `${row.template} ${row.headline ?? ""}`.toLowerCase().includes(words));
          return (
            <>
              <Text size="sm" role="status">
                {fit.length > SHOWN
                  ? `The first ${SHOWN} of ${fit.length}: search for fewer.`
                  : `${fit.length} of them.`}
              </Text>
              <WideTable label="Templates that can be had" minWidth={680} head={["Template", "From", "Fetch"]}>
                {fit.slice(0, SHOWN).map((row) => (
                  <Table.Tr key={`${row.source}/${row.template}`}>
                    <Table.Td>
                      <Text size="sm">{row.headline ?? row.template}</Text>
                      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
                        {row.template}
                      </Text>
                    </Table.Td>
                    <Table.Td>{row.source === "host" ? "built here" : row.source}</Table.Td>
                    <Table.Td>
                      <ActionButton
                        size="compact-sm"
                        action={{
                          title: `Fetch ${row.template}`,
                          method: "POST",
                          path: path`/nodes/${node ?? "localhost"}/aplinfo`,
                          parameters: { storage, template: row.template },
                        }}
                      >
                        Fetch
                      </ActionButton>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </WideTable>
            </>
          );
        }}
      </Asked>
    </Stack>
  );
}
