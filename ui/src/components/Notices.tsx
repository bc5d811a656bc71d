/** Tells how what was begun goes on and ends. */
import { Anchor, Text } from "@mantine/core";
import { type NotificationData, Notifications, notifications } from "@mantine/notifications";
import { IconAlertTriangle, IconCheck, IconX } from "@tabler/icons-react";
import { useEffect } from "react";
import { type Notice, onNotice } from "../hooks/actions";
import { RowLink } from "./RowLink";

const LOOKS = {
  running: { color: "blue", icon: null },
  done: { color: "green", icon: <IconCheck size={16} /> },
  warned: { color: "yellow", icon: <IconAlertTriangle size={16} /> },
  failed: { color: "red", icon: <IconX size={16} /> },
} as const;
const READ_IN = 4_000;

function Message({ notice: { message, upid, kind } }: { notice: Notice }) {
  return (
    <>
      {message !== "" && (
        <Text size="sm" c="var(--mantine-color-text)" className="lines wrapped" lineClamp={6}>
          {message}
        </Text>
      )}
      {upid !== undefined && kind !== "done" && (
        <Anchor component={RowLink} to={`/tasks/${encodeURIComponent(upid)}`} size="sm">
          See its log
        </Anchor>
      )}
    </>
  );
}

const shown = new Set<string>();

function show(notice: Notice): void {
  const data: NotificationData & { id: string } = {
    id: notice.id,
    title: notice.title,
    message: <Message notice={notice} />,
    role: notice.kind === "failed" ? "alert" : "status",
    loading: notice.kind === "running",
    autoClose: notice.kind === "done" ? READ_IN : false,
    withCloseButton: true,
    closeButtonProps: { "aria-label": "Close" },
    ...LOOKS[notice.kind],
    onClose: () => shown.delete(notice.id),
  };
  if (shown.has(notice.id)) {
    notifications.update(data);
  } else {
    shown.add(notice.id);
    notifications.show(data);
  }
}

export function Notices() {
  useEffect(() => onNotice(show), []);
  // Below dialogs, whose buttons it would cover.
  return <Notifications position="bottom-right" limit={4} zIndex={190} />;
}
