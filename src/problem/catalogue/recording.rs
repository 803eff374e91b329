//! Problems of recordings.

use super::catalogue;

catalogue! {
    /// What a look at the places of recordings found.
    Recording {
        Good = Ok "recordings.ok",
            "recordings can be put into the bucket of RECORDINGS_URL";
        NoFolder { assistant: String } = Warning "recordings.no_folder",
            "`{assistant}` records its calls, and STATE_DIR cannot be written to",
            effect: "no call is recorded",
            fix: "set STATE_DIR to a folder that the server may write to";
        Rights = Warning "recordings.rights",
            "AWS_ACCESS_KEY_ID is unknown to the bucket of RECORDINGS_URL, or may not put recordings there",
            effect: "calls go on; their recordings stay on this machine",
            fix: "allow s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload there: see docs/recordings.md";
        Keys = Warning "recordings.keys",
            "the bucket of RECORDINGS_URL rejects AWS_ACCESS_KEY_ID and its secret",
            effect: "calls go on; their recordings stay on this machine",
            fix: "copy AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY again, and check the clock of this machine";
        NoBucket = Warning "recordings.no_bucket",
            "the bucket of RECORDINGS_URL does not exist",
            effect: "calls go on; their recordings stay on this machine",
            fix: "create it, or correct RECORDINGS_URL; of another service than Amazon's, set AWS_ENDPOINT_URL";
        Unreachable { error: String } = Warning "recordings.unreachable",
            "the bucket of RECORDINGS_URL cannot be reached: {error}",
            effect: "calls go on; their recordings stay on this machine until it can",
            fix: "check AWS_REGION and AWS_ENDPOINT_URL";
    }
}
