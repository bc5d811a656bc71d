import type { ReactNode } from "react";
import { type Beside, PageFrame } from "../../components/PageFrame";

const beside: readonly Beside[] = [
  { label: "Users", to: "/access", exact: true },
  { label: "Tokens", to: "/access/tokens" },
  { label: "Groups", to: "/access/groups" },
  { label: "Roles", to: "/access/roles" },
  { label: "Permissions", to: "/access/permissions" },
  { label: "Realms", to: "/access/realms" },
  { label: "Audit log", to: "/access/audit" },
];

interface Props {
  title: string;
  about?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function AccessFrame(props: Props) {
  return <PageFrame {...props} beside={beside} besideLabel="Access" />;
}
