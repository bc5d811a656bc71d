/** What the caller may do, of the API's own answer and of what its document says of each operation. */

import published from "virtual:permissions";
import { useCallback } from "react";
import { lackingFor, type Wanted } from "../logic/rights";
import { usePermissions } from "./access";
import { useUser } from "./session";

/** Tells what the caller lacks for a call; undefined when nothing is known to be lacking, as before the answer is there. */
export function useLacking(): (wanted: Wanted) => string | undefined {
  const user = useUser();
  const rights = usePermissions(user === "root@pam" ? "" : user).data;
  return useCallback(
    (wanted: Wanted) => (rights === undefined ? undefined : lackingFor({ user, rights }, published, wanted)),
    [user, rights],
  );
}
