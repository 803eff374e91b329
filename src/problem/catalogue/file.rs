//! Problems of any file: YAML as such, `.env`, and files that cannot be read.

use std::io;

use super::catalogue;

catalogue! {
    /// A problem of a file, whatever it is for.
    File {
        Unreadable { error: String } = Error "file.unreadable",
            "this file cannot be read: {error}";
        Denied = Error "file.unreadable",
            "this file cannot be read: the user who runs Switchboard has no permission",
            fix: "make it readable for that user, or delete it";
        IsFolder = Error "file.unreadable",
            "this is a folder, not a file",
            fix: "delete it; Docker creates a folder if a file that it should mount does not exist";
        Folder = Error "file.unreadable",
            "this is a folder, but its name is that of a file",
            fix: "rename the folder, or replace it with a file";
        NotAFile = Error "file.unreadable",
            "this is a pipe, a socket or a device, and not a file with text",
            fix: "replace it with a file";
        TooLarge { kib: u64, most: usize } = Error "file.large",
            "the file has {kib} KiB; the limit is {most}",
            fix: "shorten it";
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

        Conflict = Error "yaml.conflict",
            "this file contains an unresolved git conflict",
            fix: "choose between the two sides, and remove the conflict markers";
        Syntax { why: String, fix: String } = Error "yaml.syntax",
            "this is not valid YAML: {why}",
            fix: "{fix}";
        Depth { most: usize } = Error "yaml.syntax",
            "values are nested more than {most} levels deep";
        Aliases = Error "yaml.syntax",
            "the aliases (`*name`) in this file expand to too much";
        TooManyValues = Error "yaml.syntax",
            "this file has too many values; the limit is 20,000";
        SecondDocument = Error "yaml.syntax",
            "a second document starts here; a file may have one";
        Key { why: String } = Error "yaml.key",
            "{why}";

        VariableMissing { name: String } = Error "env.missing",
            "the environment variable {name} is not set",
            fix: "set {name}, or write `${{{name}:-default}}` to give it a default";
        Mounted = Warning "file.mounted",
            "this file is mounted by itself: an edit that writes into it arrives within 30 s, one that replaces it, as \
             most editors and git do, never",
            fix: "mount the folder that holds it, or restart the container after each edit";
        VariableQuoted { name: String } = Warning "env.quoted",
            "the value of {name} has quotes around it, which are a part of it",
            fix: "remove them where {name} is set; `docker run --env-file` keeps the quotes of its file";
        ValueQuoted { key: String } = Warning "env.quoted",
            "the value of `{key}` has quotes within its quotes, which are a part of it",
            fix: "remove the inner quotes";
        VariableWithoutBraces { name: String } = Error "env.syntax",
            "`${name}` is not replaced: a variable is written with braces",
            fix: "write `${{{name}}}`";
        VariableSyntax { shown: String } = Error "env.syntax",
            "`${{{shown}}}` does not name a variable",
            fix: "write `${{NAME}}` or `${{NAME:-default}}`, and `$${{` for a literal `${{`";
        VariableOpen = Error "env.syntax",
            "`${{` has no closing brace",
            fix: "write `$${{` for a literal `${{`";
        VariableTooLong = Error "env.large",
            "this value is too long after its variables are replaced; the limit is 256 KiB";

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
        EnvComment { name: String } = Warning "env.comment",
            "{name} ends before the ` #`: the rest of the line is a comment",
            fix: "put the value in quotes; before a real comment write two spaces, and one after its `#`";
        EnvMisspelt { name: String, near: String } = Warning "env.unread",
            "nothing uses {name}",
            fix: "did you mean {near}?";
        EnvUnused { name: String } = Warning "env.unread",
            "nothing uses {name}",
            fix: "remove the line, or refer to it as `${{NAME}}` in the file that needs it";
    }
}

impl File {
    /// Why a file cannot be read.
    pub fn unreadable(error: &io::Error) -> File {
        match error.kind() {
            io::ErrorKind::PermissionDenied => File::Denied,
            io::ErrorKind::IsADirectory => File::IsFolder,
            _ => File::Unreadable { error: error.to_string() },
        }
    }
}

catalogue! {
    /// A problem of reading the folder of assistants as a whole.
    ReadFolder {
        Missing { dir: String } = Error "folder.unreadable",
            "the folder `{dir}` does not exist",
            fix: "run `switchboard new NAME`, which creates it with a first assistant, or set ASSISTANTS_DIR";
        NotAFolder { dir: String } = Error "folder.unreadable",
            "`{dir}` is not a folder",
            fix: "set ASSISTANTS_DIR to a folder of YAML files";
        Empty { dir: String } = Error "folder.unreadable",
            "there is no assistant in `{dir}`",
            fix: "write one .yaml file per assistant, or run `switchboard new NAME`";
        WrongEnding { dir: String, path: String } = Error "folder.unreadable",
            "there is no assistant in `{dir}`; `{path}` is ignored",
            fix: "rename it so that it ends in .yaml, in lower case";
        Unreadable { path: String, error: String } = Error "folder.unreadable",
            "`{path}` cannot be read: {error}";
        Denied { path: String } = Error "folder.unreadable",
            "`{path}` cannot be read: the user who runs Switchboard has no permission",
            fix: "run `chmod +r` on it, and `chmod +x` on the folders that contain it";
        LinkOut { path: String, target: String } = Error "folder.link",
            "`{path}` is a link out of the folder, to `{target}`, so it is not read",
            fix: "replace the link with the file itself; a link within the folder is followed, and so is the folder itself";
        Dangling { path: String, target: String } = Error "folder.link",
            "`{path}` is a link to `{target}`, which does not exist",
            fix: "correct the link, or delete it";
        LinkLoop { path: String } = Error "folder.link",
            "`{path}` is a link that leads back to itself",
            fix: "correct the link, or delete it";
        LargeRecording { path: String, mb: u64 } = Error "folder.large",
            "`{path}` has {mb} MB; a recording may have 20",
            fix: "save it with 8 kHz and one channel, as a phone plays it";
        TooLarge { dir: String, mb: u64 } = Error "folder.large",
            "the files in `{dir}` have more than {mb} MB together",
            fix: "save recordings with 8 kHz and one channel, and delete those that nobody uses";
        TooManyFiles { dir: String } = Error "folder.unreadable",
            "`{dir}` has more than 10,000 files",
            fix: "check that ASSISTANTS_DIR is the right folder";
        Panicked = Error "folder.check",
            "the check of this folder panicked, which is a bug in Switchboard",
            fix: "please report it";
    }
}
