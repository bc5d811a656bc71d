/** A job's form: whom, where to, when. Beside the schedule it tells the next runs. */
import { Alert, List, Loader, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useState } from "react";
import { faultOfField } from "../../api/errors";
import { backupFields, HOW, KEEP } from "../../components/BackUpForm";
import { SchemaForm } from "../../components/SchemaForm";
import { useSchedule } from "../../hooks/backupJobs";
import { useBackupStorages } from "../../hooks/backups";
import { usePools } from "../../hooks/creating";
import { useGuests } from "../../hooks/resources";
import { useNodeStorages } from "../../hooks/storage";
import { changeJob, createJob, JOB_PATHS, type JobKind, type JobRow } from "../../logic/backupJobs";
import { nameOf } from "../../logic/guestActions";
import { asValues, changes, type FieldGroup, type FieldSpec, given, type Values } from "../../logic/schema";
import { moment } from "../../logic/units";

interface Props {
  node: string;
  kind: JobKind;
  /** The one that is changed; without it a new one. */
  row?: JobRow | undefined;
  onDone: () => void;
}

const SCHEDULE: FieldSpec = {
  name: "schedule",
  open: true,
  required: true,
  help: "A calendar event: daily, 02:30, mon..fri 21:00, *:0/15, sat *-1..7 15:00 ...",
  options: ["daily", "02:30", "mon..fri 02:30", "sun 04:00", "*:0/30", "monthly"],
};

const WHEN: FieldGroup = {
  title: "When and why",
  fields: [
    SCHEDULE,
    "comment",
    { name: "enabled", label: "Enabled" },
    { name: "repeat-missed", label: "Make up for missed runs", help: "What was due while the host was down." },
  ],
};

const TELL: FieldGroup = {
  title: "Who is told",
  folded: true,
  fields: [
    { name: "mailto", label: "Mail to" },
    { name: "mailnotification", label: "When" },
    { name: "webhook", help: "An HTTPS address that gets the result as JSON." },
  ],
};

const FIRST: Readonly<Record<JobKind, Values>> = {
  backup: { schedule: "02:30", all: "1", compress: "zstd", mode: "snapshot", enabled: "1" },
  verify: { schedule: "sun 04:00", enabled: "1" },
  test: { schedule: "sun 05:00", all: "1", enabled: "1" },
};

export function JobForm({ node, kind, row, onDone }: Props) {
  const fields = useFields(node, kind, row === undefined);
  const storage = useStorages(node, kind)?.[0] ?? "";
  const before = row === undefined ? { ...FIRST[kind], storage } : valuesOf(row);
  const [schedule, setSchedule] = useState(before.schedule ?? "");
  if (fields === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const path = JOB_PATHS[kind];
  return (
    <SchemaForm
      operation={row === undefined ? { method: "POST", path } : { method: "PUT", path: `${path}/{id}` }}
      fields={fields}
      initial={before}
      action={(values) =>
        row === undefined ? createJob(kind, given(values)) : changeJob(kind, row.id, changes(before, values))
      }
      submit={row === undefined ? "Create" : "Save"}
      onValues={(values) => setSchedule(values.schedule ?? "")}
      onDone={onDone}
      onCancel={onDone}
    >
      <NextRuns schedule={schedule} />
    </SchemaForm>
  );
}

/** What a form can hold of a job: what is told of its runs is none of its options. */
function valuesOf(row: JobRow): Values {
  const { id: _, type: __, "next-run": ___, "last-run": ____, ...options } = row;
  return { enabled: "1", ...asValues(options) };
}

/** Where a job's backups, or the copies of its restore tests, can be. */
function useStorages(node: string, kind: JobKind): readonly string[] | undefined {
  const backups = useBackupStorages(node);
  const rows = useNodeStorages(node).data;
  if (kind !== "test") {
    return backups;
  }
  return rows?.filter((one) => one.active && /rootdir|images/.test(one.content)).map((one) => one.storage);
}

function useFields(node: string, kind: JobKind, fresh: boolean): (FieldSpec | FieldGroup)[] | undefined {
  const backups = useBackupStorages(node);
  const storages = useStorages(node, kind);
  const guests = useGuests().data ?? [];
  const pools = usePools().data ?? [];
  if (backups === undefined || storages === undefined) {
    return undefined;
  }
  const options = guests.map((one) => ({ value: String(one.vmid), label: `${nameOf(one)} (${one.vmid})` }));
  const named: FieldSpec = { name: "vmid", label: "Guests", options, many: true };
  const every: FieldSpec = { name: "all", label: "All guests" };
  const but: FieldSpec = { name: "exclude", label: "But not", options, many: true };
  const pool: FieldSpec = { name: "pool", options: pools.map((one) => one.poolid) };
  const id: FieldSpec = { name: "id", label: "Name", required: true, placeholder: "nightly" };
  const name = fresh ? [id] : [];
  if (kind === "backup") {
    const whom = { title: "Whom", fields: [every, named, ...(pools.length > 0 ? [pool] : []), but] };
    return [...name, whom, { title: "How", fields: backupFields(backups) as FieldSpec[] }, WHEN, KEEP, TELL, HOW];
  }
  if (kind === "verify") {
    const age = { name: "outdated-after", label: "Again after", help: "Days; 0 reads all of them every time." };
    return [...name, { name: "storage", options: backups, required: true }, age, WHEN];
  }
  return [...name, { title: "Whom", fields: [every, named, but] }, ...testFields(storages, backups), WHEN];
}

/** What a restore test asks beside the guests. */
export function testFields(able: readonly string[], backups: readonly string[]): FieldSpec[] {
  return [
    { name: "storage", label: "Storage for the copies", options: able },
    { name: "backup-storage", label: "Backups on", options: backups, placeholder: "Any storage" },
    { name: "command", label: "Command in the copy", lines: 2, help: "For sh -c as root there; it must end with 0." },
    { name: "timeout", help: "Seconds for booting, and once more for the command." },
  ];
}

function NextRuns({ schedule }: { schedule: string }) {
  const [asked] = useDebouncedValue(schedule.trim(), 300);
  const { data, error } = useSchedule(asked, 5);
  if (asked === "") {
    return null;
  }
  if (error !== null) {
    return (
      <Alert color="red" role="status">
        {faultOfField(error, "schedule")}
      </Alert>
    );
  }
  return (
    <div role="status">
      <Text size="sm" fw={600}>
        Next runs
      </Text>
      {data?.length === 0 && <Text size="sm">never</Text>}
      <List size="sm" className="figures">
        {data?.map((at) => (
          <List.Item key={at}>{moment(at)}</List.Item>
        ))}
      </List>
    </div>
  );
}
