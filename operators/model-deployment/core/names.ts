// Names in texts that users write: queries, addresses, messages.

/** Text with `{{names}}` filled in, each made fit for its place by `quote`; one that is not known is an error. */
export function fill(
  text: string,
  names: Readonly<Record<string, string>>,
  quote: (value: string) => string = (value) => value,
): string {
  return text.replaceAll(/\{\{\s*([A-Za-z.]+)\s*\}\}/g, (whole, name: string) => {
    const value = names[name];
    if (value === undefined) throw new Error(`${whole} is not known`);
    return quote(value);
  });
}
