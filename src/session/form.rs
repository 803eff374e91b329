//! The form after a call, as the session files it.

use super::model::Model;
use super::perform::Session;
use super::registry::Decision;
use crate::record::What;

impl Session {
    /// Has the model fill in the form of a call that is over, and files it.
    pub(super) async fn file_form(&mut self, model: &mut Model) {
        // Undecided: another machine has the call. Again: it has not begun.
        let is_over = !matches!(*self.decision.borrow(), None | Some(Decision::Again));
        if !is_over || self.plan.after_call.is_none() {
            return;
        }
        let form = model.fill_form().await;
        model.notes.drain(..).for_each(|note| self.filing.note(note));
        self.filing.file(What::Form(form));
    }
}
