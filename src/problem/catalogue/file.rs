//! Problems of any file: YAML as such, `.env`, and files that cannot be read.

use super::catalogue;

catalogue! {
    /// A problem of a file, whatever is in it.
    File {
        Unreadable { error: String } = Error "file.unreadable",
            "this file cannot be read: {error}",
            fix: "let the user who runs the program read it, or remove it";
        TooLarge { kib: usize } = Error "file.large",
            "the file has {kib} KiB; the limit is 256";
        Utf16 = Error "file.encoding",
            "the file is UTF-16",
            fix: "save it as UTF-8";
        NotUtf8 { line: usize } = Error "file.encoding",
            "line {line} is not UTF-8",
            fix: "save the file as UTF-8";
        Binary { line: usize } = Error "file.binary",
            "line {line} contains a zero byte: this is not a text file";
        CarriageReturn { line: usize } = Error "file.lines",
            "line {line} contains a carriage return that does not end a line",
            fix: "save the file with Unix (LF) or Windows (CR LF) line endings";
        TooMany { more: usize } = Error "file.problems",
            "there are {more} more problems in this file";

        EnvLineNotUtf8 = Error "env.line",
            "this line is not UTF-8",
            fix: "save the file as UTF-8";
        EnvLineWithoutEquals = Error "env.line",
            "this line has no `=`",
            fix: "write NAME=value, or remove the line; a comment starts with #";
        EnvLineWithoutName = Error "env.line",
            "the text before the `=` is not the name of a variable",
            fix: "write NAME=value, or remove the line; a comment starts with #";
        EnvDuplicate { name: String, first: usize, used: usize } = Warning "env.double",
            "{name} is also set on line {first}; line {used} is used",
            fix: "keep one of the two lines: Docker Compose uses the last one, even if it is empty";
        EnvUnused { name: String, help: String } = Warning "env.unread",
            "nothing uses {name}",
            fix: "{help}";
    }
}
