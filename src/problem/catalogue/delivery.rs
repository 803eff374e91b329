//! Problems of the ways to owners: mail server, text messages, files.

use super::catalogue;

catalogue! {
    /// What a look at the ways to owners found.
    Delivery {
        MailGood = Ok "mail.ok",
            "the mail server of SMTP_URL lets us in and accepts the sender";
        MailFailed { error: String, help: &'static str } = Warning "mail.failed",
            "{error}",
            effect: "nothing reaches an owner by e-mail; what is to go that way waits for three days",
            fix: "{help}";
        NoMailServer { what: String } = Warning "delivery.no_mail_server",
            "{what} are to go by e-mail, but SMTP_URL is not set",
            effect: "they are tried for three days and then given up",
            fix: "set SMTP_URL=smtps://user:password@host:465, or remove `email` from `to`";
        NoAccount { what: String } = Warning "delivery.no_account",
            "{what} are to go by text message, but the account at Twilio is not set",
            effect: "they are tried for three days and then given up",
            fix: "set TWILIO_ACCOUNT_SID, or remove `sms` from `to`";
        NoSender = Warning "delivery.no_sender",
            "alerts are to go by text message, but no assistant has a number that could send them",
            effect: "they are given up",
            fix: "add a number to `numbers` of an assistant, or remove `sms` from `to`";
        NoFolder { what: String } = Warning "delivery.no_folder",
            "{what} are to go to a file, but there is no folder for it: STATE_DIR is not set, or cannot be written to",
            effect: "they are tried for three days and then given up",
            fix: "set STATE_DIR to a folder that the user who runs the server can write to, or remove `file` from `to`";
    }
}
