//! The form after a call, as the session files it.

use super::model::Model;
use super::perform::Session;
use crate::record::What;

impl Session {
    /// Has the model fill in the form, and files it.
    pub(super) async fn file_form(&mut self, model: &mut Model) {
        if self.plan.after_call.is_none() {
            return;
        }
        let form = model.fill_form().await;
        model.notes.drain(..).for_each(|note| self.filing.note(note));
        self.filing.file(What::Form(form));
    }
}
