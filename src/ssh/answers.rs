//! Answers to keyboard-interactive questions, from what was collected before the run.

use crate::host::Secret;

/// The longest prompt shown in an error, in characters.
const MAX_PROMPT: usize = 80;

/// Words of a question that no password answers.
const CODE_WORDS: [&str; 8] = ["code", "passcode", "token", "otp", "pin", "verification", "authenticator", "yubikey"];

/// Answers the first hidden question with the password, and no other: a second one means that it was wrong, or asks for
/// something else, as a shown one does.
pub(super) struct Answers<'a> {
    password: &'a Secret,
    answered: Option<String>,
    unanswered: Option<String>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(password: &'a Secret) -> Self {
        Self { password, answered: None, unanswered: None }
    }

    /// Returns the first question that asked for something else.
    pub(super) fn unanswered(&self) -> Option<&str> {
        self.unanswered.as_deref()
    }

    fn answer(&mut self, prompt: &str, is_shown: bool) -> String {
        let prompt: String = prompt.trim().chars().filter(|c| !c.is_control()).take(MAX_PROMPT).collect();
        if !is_shown && self.answered.is_none() && !asks_for_code(&prompt) {
            self.answered = Some(prompt);
            return self.password.expose().to_owned();
        }
        // The same question again: the password was wrong.
        if self.answered.as_ref() != Some(&prompt) {
            self.unanswered.get_or_insert(prompt);
        }
        String::new()
    }
}

fn asks_for_code(prompt: &str) -> bool {
    let prompt = prompt.to_lowercase();
    prompt.split(|c: char| !c.is_alphanumeric()).any(|word| CODE_WORDS.contains(&word))
}

impl ssh2::KeyboardInteractivePrompt for Answers<'_> {
    fn prompt(&mut self, _name: &str, _instructions: &str, prompts: &[ssh2::Prompt<'_>]) -> Vec<String> {
        prompts.iter().map(|prompt| self.answer(&prompt.text, prompt.echo)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_hidden_question_gets_the_password() {
        let password = Secret::from("swordfish");
        let mut answers = Answers::new(&password);
        assert_eq!(answers.answer("(ops@web) Password: ", false), "swordfish");
        assert_eq!(answers.answer("(ops@web) Password: ", false), "");
        assert_eq!(answers.unanswered(), None, "the password was wrong");
        assert_eq!(answers.answer("Verification code: ", false), "");
        assert_eq!(answers.unanswered(), Some("Verification code:"));
    }

    #[test]
    fn a_code_or_what_is_shown_is_never_the_password() {
        let password = Secret::from("swordfish");
        for (prompt, is_shown) in [("Passcode or option (1-3): ", false), ("One-time OTP:", false), ("Login: ", true)] {
            let mut answers = Answers::new(&password);
            assert_eq!(answers.answer(prompt, is_shown), "", "{prompt}");
            assert_eq!(answers.unanswered(), Some(prompt.trim()));
        }
    }
}
