declare module "virtual:permissions" {
  const published: import("./logic/rights").Published;
  export default published;
}
