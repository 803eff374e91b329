//! Problems of assistants' files.

use super::catalogue;

catalogue! {
    /// A problem of an assistant's file, or of the folder as a whole.
    Assistant {
        FileName = Error "assistant.name",
            "the name of the file is the name of the assistant, and this name is not valid",
            fix: "use a to z, 0 to 9 and -, at most 64 characters, such as front-desk.yaml";
    }
}
