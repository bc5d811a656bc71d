/** Users with their groups and tokens, roles, realms, and what somebody may do. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface TokenRow {
  readonly tokenid: string;
  readonly privsep: number;
  readonly expire: number;
  readonly comment?: string;
}

export interface UserRow {
  readonly userid: string;
  readonly "realm-type": string;
  readonly enable?: number;
  readonly expire?: number;
  readonly comment?: string;
  readonly email?: string;
  readonly firstname?: string;
  readonly lastname?: string;
  readonly "totp-locked"?: number;
  /** Seconds since the epoch. */
  readonly "tfa-locked-until"?: number;
  readonly groups: string;
  readonly tokens: readonly TokenRow[];
}

export function useUsers() {
  return useQuery({
    queryKey: ["access", "users"],
    queryFn: async () => {
      const params = { query: { full: true } };
      return (await answer<unknown>(api.GET("/api2/json/access/users", { params }))) as readonly UserRow[];
    },
  });
}

export interface GroupRow {
  readonly groupid: string;
  readonly users: string;
  readonly comment?: string;
}

export function useGroups() {
  return useQuery({
    queryKey: ["access", "groups"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/access/groups"))) as readonly GroupRow[],
  });
}

export interface RoleRow {
  readonly roleid: string;
  readonly privs: string;
  /** Whether it is built in. */
  readonly special: number;
}

export function useRoles() {
  return useQuery({
    queryKey: ["access", "roles"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/access/roles"))) as readonly RoleRow[],
  });
}

export interface RealmRow {
  readonly realm: string;
  readonly type: string;
  readonly comment?: string;
  /** Whether the login page begins with it. */
  readonly default?: number;
}

/** The options of a realm, by the API's names. */
export function useRealm(realm: string) {
  return useQuery({
    queryKey: ["access", "realms", realm],
    queryFn: async () => {
      const params = { path: { realm } };
      const found = await answer<unknown>(api.GET("/api2/json/access/domains/{realm}", { params }));
      return found as Readonly<Record<string, string | number>>;
    },
    staleTime: 0,
  });
}

export function useRealms() {
  return useQuery({
    queryKey: ["access", "realms"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/access/domains"))) as readonly RealmRow[],
  });
}

export type Permissions = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** What a user or a token may do, path by path. */
export function usePermissions(userid: string) {
  return useQuery({
    queryKey: ["access", "permissions", userid],
    queryFn: async () => {
      const params = { query: { userid } };
      return (await answer<unknown>(api.GET("/api2/json/access/permissions", { params }))) as Permissions;
    },
    enabled: userid !== "",
  });
}

export interface PoolMember {
  readonly id: string;
  readonly type: "qemu" | "lxc" | "storage";
  readonly vmid?: number;
  readonly name?: string;
  readonly storage?: string;
  readonly status?: string;
}

export function usePoolMembers(poolid: string) {
  return useQuery({
    queryKey: ["pools", poolid],
    queryFn: async () => {
      const rows = await answer<unknown>(api.GET("/api2/json/pools", { params: { query: { poolid } } }));
      return (rows as readonly { readonly members: readonly PoolMember[] }[])[0]?.members ?? [];
    },
    refetchInterval: 10_000,
  });
}
