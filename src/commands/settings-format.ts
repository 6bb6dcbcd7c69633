// What installing asks of a settings file, whatever language it is written in.

/** One section of a settings file: an object below a key of JSON, or a table of TOML. */
export interface Section {
  /** In TOML a value is its text. */
  readonly values: ReadonlyMap<string, unknown>;
  /** What stands where the section should, so that nothing can be set in it. */
  readonly obstacle?: string;
}

/** What stood in a place that was empty before something was set there, which its text does not tell afterwards. */
export interface Stood {
  /** The whole file's text where it held blanks only; null where there was none. */
  readonly file?: string | null;
  /** Null where there was no folder for it either. */
  readonly folder?: null;
  /** The blanks in a root or a section without members; null where there was no section. */
  readonly root?: string;
  readonly section?: string | null;
}

/** A language of settings. Whatever is not set or removed stays to the byte, and removing undoes setting to the byte. */
export interface SettingsFormat {
  /** How people call a file of it, with its article. */
  readonly name: string;
  /** A file without settings. */
  readonly empty: string;
  /** @returns undefined where the text is none of this language */
  read(text: string, section: string): Section | undefined;
  stood(text: string, section: string): Pick<Stood, 'root' | 'section'>;
  set(text: string, section: string, values: ReadonlyMap<string, unknown>): string;
  /** Takes keys out that stand there, and the section when it was made for them and nothing else is in it. */
  remove(text: string, section: string, keys: Iterable<string>, before: Stood): string;
  /** How people find a key. */
  label(section: string, key: string): string;
  holdsNothing(text: string): boolean;
}
