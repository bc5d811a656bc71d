/** The access list, and who and what can stand in it. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { AclEntry } from "../logic/acl";

export function useAcl() {
  return useQuery({
    queryKey: ["access", "acl"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/access/acl"))) as readonly AclEntry[],
  });
}

export interface Known {
  readonly users: readonly string[];
  readonly groups: readonly string[];
  readonly roles: readonly string[];
}

/** The users, groups and roles that the caller may see; what is refused is left out. */
export function useGrantable() {
  return useQuery({
    queryKey: ["access", "grantable"],
    queryFn: async (): Promise<Known> => {
      const [users, groups, roles] = await Promise.all([
        answer<unknown>(api.GET("/api2/json/access/users")).catch(() => []),
        answer<unknown>(api.GET("/api2/json/access/groups")).catch(() => []),
        answer<unknown>(api.GET("/api2/json/access/roles")),
      ]);
      return {
        users: (users as readonly { readonly userid: string }[]).map((row) => row.userid),
        groups: (groups as readonly { readonly groupid: string }[]).map((row) => row.groupid),
        roles: (roles as readonly { readonly roleid: string }[]).map((row) => row.roleid),
      };
    },
  });
}
