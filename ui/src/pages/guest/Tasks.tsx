/** What was done with a guest, newest first. */
import { useCallback } from "react";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { TaskTable } from "../../components/TaskTable";
import type { GuestRow } from "../../hooks/resources";
import { useTaskList } from "../../hooks/taskList";

export function Tasks({ guest }: { guest: GuestRow }) {
  const tasks = useTaskList(guest.node, { vmid: guest.vmid });
  const { fetchNextPage, hasNextPage } = tasks;
  const more = useCallback(() => {
    if (hasNextPage) {
      void fetchNextPage();
    }
  }, [fetchNextPage, hasNextPage]);
  return (
    <Asked query={tasks}>
      {(rows) =>
        rows.length === 0 ? <Empty title="No task of this guest is known" /> : <TaskTable rows={rows} onEnd={more} />
      }
    </Asked>
  );
}
