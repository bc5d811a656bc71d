/** Images: what guests are made from; those that are here, and how to get more. */
import { Stack, Tabs } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { PageFrame } from "../../components/PageFrame";
import { BuildImages } from "./BuildImages";
import { ImageServers } from "./ImageServers";
import { ImageTable } from "./ImageTable";
import { OfferedTemplates } from "./OfferedTemplates";
import { PullImage } from "./PullImage";

const TABS = ["here", "build", "pull", "servers"] as const;

export function ImagesPage() {
  const asked = (useSearch({ strict: false }) as { tab?: string }).tab;
  const navigate = useNavigate();
  const tab = TABS.find((one) => one === asked) ?? "here";
  const go = (to: string | null) => void navigate({ to: "/images", search: { tab: to } as never, replace: true });
  return (
    <PageFrame title="Images" about="Templates of CTs and disk images of VMs, which guests are made from.">
      <Tabs value={tab} onChange={go} keepMounted={false}>
        <div className="sideways">
          <Tabs.List>
            <Tabs.Tab value="here">Here</Tabs.Tab>
            <Tabs.Tab value="build">Build</Tabs.Tab>
            <Tabs.Tab value="pull">Pull</Tabs.Tab>
            <Tabs.Tab value="servers">Image servers</Tabs.Tab>
          </Tabs.List>
        </div>
        <Tabs.Panel value="here" pt="md">
          <ImageTable />
        </Tabs.Panel>
        <Tabs.Panel value="build" pt="md">
          <BuildImages />
        </Tabs.Panel>
        <Tabs.Panel value="pull" pt="md">
          <PullImage />
        </Tabs.Panel>
        <Tabs.Panel value="servers" pt="md">
          <Stack gap="xl">
            <ImageServers />
            <OfferedTemplates />
          </Stack>
        </Tabs.Panel>
      </Tabs>
    </PageFrame>
  );
}
