//! Answers to keyboard-interactive questions, from what was collected before the run.

use crate::host::{Answer, Secret};

/// The longest prompt shown in an error, in characters.
const MAX_PROMPT: usize = 80;

/// Words of a question that no password answers.
const CODE_WORDS: [&str; 8] = ["code", "passcode", "token", "otp", "pin", "verification", "authenticator", "yubikey"];

/// Answers each question that an answer was collected for, and of the others the first hidden one with the password. Nothing is
/// given twice: a second question means that it was wrong, or asks for something else, as one that is shown does.
pub(super) struct Answers<'a> {
    password: Option<&'a Secret>,
    collected: &'a [Answer],
    /// The questions that got an answer.
    answered: Vec<String>,
    /// What was given: the password, and which of the collected answers.
    gave_password: bool,
    given: Vec<&'a str>,
    unanswered: Option<String>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(password: Option<&'a Secret>, collected: &'a [Answer]) -> Self {
        Self { password, collected, answered: Vec::new(), gave_password: false, given: Vec::new(), unanswered: None }
    }

    /// Returns the first question that asked for something else.
    pub(super) fn unanswered(&self) -> Option<&str> {
        self.unanswered.as_deref()
    }

    /// Names what was given.
    pub(super) fn given(&self) -> String {
        let mut given = Vec::new();
        if self.gave_password || self.given.is_empty() && self.password.is_some() {
            given.push("the password".to_owned());
        }
        given.extend(self.given.iter().map(|question| format!("the answer to {question:?}")));
        match given.is_empty() {
            true => "keyboard-interactive".to_owned(),
            false => format!("{} (keyboard-interactive)", given.join(" and ")),
        }
    }

    fn answer(&mut self, prompt: &str, is_shown: bool) -> String {
        let prompt: String = prompt.trim().chars().filter(|c| !c.is_control()).take(MAX_PROMPT).collect();
        // The same question again: the answer was wrong.
        if self.answered.contains(&prompt) {
            return String::new();
        }
        let asked = prompt.to_lowercase();
        let fits = |answer: &&Answer| asked.contains(&answer.question.to_lowercase());
        if let Some(answer) = self.collected.iter().find(fits) {
            self.answered.push(prompt);
            if self.given.contains(&&*answer.question) {
                return String::new();
            }
            self.given.push(&answer.question);
            return answer.secret.expose().to_owned();
        }
        if let Some(password) = self.password.filter(|_| !is_shown && !self.gave_password && !asks_for_code(&asked)) {
            self.gave_password = true;
            self.answered.push(prompt);
            return password.expose().to_owned();
        }
        self.unanswered.get_or_insert(prompt);
        String::new()
    }
}

/// Tells whether a question, in lower case, asks for what no password is.
fn asks_for_code(prompt: &str) -> bool {
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
        let mut answers = Answers::new(Some(&password), &[]);
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
            let mut answers = Answers::new(Some(&password), &[]);
            assert_eq!(answers.answer(prompt, is_shown), "", "{prompt}");
            assert_eq!(answers.unanswered(), Some(prompt.trim()));
        }
    }

    #[test]
    fn each_question_gets_the_answer_that_was_collected_for_it_and_that_once() {
        let password = Secret::from("swordfish");
        let collected = [Answer::new("verification CODE", "123456".into()), Answer::new("pin", "4711".into())];
        let mut answers = Answers::new(Some(&password), &collected);
        let asked = ["Login PIN (shown): ", "Password: ", "(ops@web) Verification code: ", "Password: "];
        let said: Vec<_> = asked.iter().map(|prompt| answers.answer(prompt, prompt.contains("shown"))).collect();
        assert_eq!(said, ["4711", "swordfish", "123456", ""]);
        assert_eq!(answers.unanswered(), None);
        let given =
            "the password and the answer to \"pin\" and the answer to \"verification CODE\" (keyboard-interactive)";
        assert_eq!(answers.given(), given);
        assert_eq!(answers.answer("Next verification code: ", false), "", "a code is used up");
        assert_eq!(answers.answer("Colour? ", true), "");
        assert_eq!(answers.unanswered(), Some("Colour?"));
    }

    #[test]
    fn without_a_password_only_what_was_collected_is_given() {
        let collected = [Answer::new("code", "123456".into())];
        let mut answers = Answers::new(None, &collected);
        assert_eq!(answers.given(), "keyboard-interactive");
        assert_eq!(answers.answer("Password: ", false), "");
        assert_eq!(answers.answer("Code: ", false), "123456");
        assert_eq!(answers.unanswered(), Some("Password:"));
    }
}
