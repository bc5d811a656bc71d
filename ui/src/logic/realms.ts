/** Realms: what each type asks for, and what can be done with one. */
import { remove } from "./access";
import { type Action, path, shellCommand } from "./actions";
import { changes, type FieldGroup, type FieldSpec, given, type Values } from "./schema";

export const REALM_TYPES: Readonly<Record<string, string>> = {
  ldap: "LDAP directory",
  ad: "Active Directory",
  openid: "OpenID provider",
  pam: "The host's own users",
  pve: "Users of this Bastide",
};

const ABOUT: readonly FieldSpec[] = [
  { name: "comment", lines: 1 },
  { name: "default", label: "Chosen at the login page" },
];

const SERVERS: readonly FieldSpec[] = [
  { name: "server1", label: "Server", placeholder: "ldap.example.org", required: true },
  { name: "server2", label: "Second server", help: "Asked when the first does not answer" },
  { name: "mode", label: "Encryption", help: "ldap sends passwords in the clear" },
  { name: "port" },
  { name: "verify", label: "Verify the server's certificate" },
];

const DIRECTORY_LESS: readonly FieldSpec[] = [
  { name: "bind_dn", label: "Bind as", help: "A user who may read the directory; none reads it as nobody" },
  { name: "password", label: "Their password", secret: true, help: "Kept on the host and shown nowhere" },
  { name: "case-sensitive", label: "Upper and lower case differ in names", on: true },
  { name: "capath", label: "Certificates to believe", help: "A file or a folder on the host" },
];

const SYNCED: readonly FieldSpec[] = [
  { name: "sync_attributes", label: "Attributes", placeholder: "email=mail,firstname=givenName" },
  { name: "filter", label: "Filter of users", placeholder: "(memberOf=cn=ops,dc=example)" },
  { name: "user_classes", label: "Classes of users" },
  { name: "group_dn", label: "Base of groups" },
  { name: "group_filter", label: "Filter of groups" },
  { name: "group_name_attr", label: "Attribute with a group's name" },
  { name: "group_classes", label: "Classes of groups" },
];

const OPENID: readonly FieldSpec[] = [
  { name: "issuer-url", label: "Issuer", placeholder: "https://id.example.org/realms/home", required: true },
  { name: "client-id", label: "Client ID", required: true },
  { name: "client-key", label: "Client key", secret: true, help: "Kept on the host and shown nowhere" },
];

const OPENID_MORE: readonly FieldSpec[] = [
  { name: "autocreate", label: "Make users who log in for the first time" },
  { name: "groups-claim", label: "Claim with the groups" },
  { name: "groups-autocreate", label: "Make groups that are not here" },
  { name: "groups-overwrite", label: "Take groups away that are not claimed" },
  { name: "scopes", placeholder: "email profile" },
  { name: "prompt" },
  { name: "acr-values", label: "ACR values" },
  { name: "query-userinfo", label: "Ask for the user's details", on: true },
];

function searched(type: string): FieldSpec[] {
  return type === "ad"
    ? [
        { name: "domain", placeholder: "corp.example", required: true },
        { name: "base_dn", label: "Base", help: "The domain's own, unless given" },
        { name: "user_attr", label: "Attribute with the name", placeholder: "sAMAccountName" },
      ]
    : [
        { name: "base_dn", label: "Base", placeholder: "ou=people,dc=example,dc=org", required: true },
        { name: "user_attr", label: "Attribute with the name", placeholder: "uid", required: true },
      ];
}

/** What the form of a type asks for; the claim with the name never changes. */
export function realmFields(type: string, added: boolean): (FieldSpec | FieldGroup)[] {
  if (type === "openid") {
    const claim = { name: "username-claim", label: "Claim with the name", placeholder: "sub" };
    return [...OPENID, ...(added ? [claim] : []), ...ABOUT, { title: "More", fields: OPENID_MORE, folded: true }];
  }
  if (type !== "ldap" && type !== "ad") {
    return [...ABOUT];
  }
  const check = { name: "check-connection", label: "Try the directory before it is saved", on: true };
  return [
    ...SERVERS,
    ...searched(type),
    ...DIRECTORY_LESS,
    ...ABOUT,
    check,
    { title: "What a sync takes over", fields: SYNCED, folded: true },
  ];
}

export function addRealm(type: string, values: Values): Action {
  return { title: "Add realm", method: "POST", path: "/access/domains", parameters: { type, ...given(values) } };
}

export function editRealm(realm: string, before: Values, now: Values): Action {
  return {
    title: `Change ${realm}`,
    method: "PUT",
    path: path`/access/domains/${realm}`,
    parameters: changes(before, now),
  };
}

export function removeRealm(realm: string, users: number): Action {
  return {
    ...remove("realm", realm, path`/access/domains/${realm}`, [
      `${users} users, who stay and cannot log in`,
      "Its options and its secret",
    ]),
    command: shellCommand("bastide", "realm", "remove", realm),
  };
}

/** A sync of a directory; a preview only says in its log what it would do. */
export function syncRealm(realm: string, values: Values, preview: boolean): Action {
  return {
    title: preview ? `Preview the sync of ${realm}` : `Sync ${realm}`,
    method: "POST",
    path: path`/access/domains/${realm}/sync`,
    parameters: { ...given(values), ...(preview && { "dry-run": true }) },
  };
}
