/** The places of the page, at its side. */
import { NavLink } from "@mantine/core";
import { useRouterState } from "@tanstack/react-router";
import { places } from "./navigation";
import { RowLink } from "./RowLink";
import classes from "./Shell.module.css";

/** The place with the longest address that the path begins with. */
function placeOf(path: string): string | undefined {
  const within = places.filter(({ to }) => path === to || (to !== "/" && path.startsWith(`${to}/`)));
  return within.sort((a, b) => b.to.length - a.to.length)[0]?.to;
}

export function Places() {
  const here = useRouterState({ select: (state) => placeOf(state.location.pathname) });
  return (
    <div className={classes.places}>
      {places.map(({ label, to, icon: Icon }) => (
        <NavLink
          key={to}
          component={RowLink}
          to={to}
          label={label}
          active={to === here}
          aria-current={to === here ? "page" : undefined}
          leftSection={<Icon size={16} />}
          className={classes.place}
        />
      ))}
    </div>
  );
}
