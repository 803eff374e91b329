//! Problems of assistants' files and of their folder.

use super::catalogue;
use crate::problem::Suggestion;

catalogue! {
    /// A problem of an assistant's file, or of the folder as a whole.
    Assistant {
        FileName = Error "file.name",
            "this file name is not a valid assistant name",
            fix: "use a to z, 0 to 9 and -, at most 64 characters, such as front-desk.yaml";
        FileDuplicate { name: String, other: String } = Error "file.double",
            "the assistant `{name}` is also in {other}",
            fix: "keep one of the two files";
        FileEmpty = Error "file.empty",
            "the file is empty",
            fix: "write at least `numbers` and `instructions`, or delete the file";
        FileNotMap { found: &'static str } = Error "type.map",
            "an assistant is a map of keys, not {found}",
            fix: "write `instructions: …` and further keys";
        FileIgnored = Warning "file.unread",
            "this file is ignored",
            fix: "name assistants NAME.yaml, fragments fragments/NAME.md recorded greetings greetings/NAME.wav and recorded lines sounds/NAME.wav, in lower case";
        FolderEmpty = Error "folder.empty",
            "there is no assistant in the folder",
            fix: "run `switchboard new clinic`, or write a file such as clinic.yaml with `numbers` and `instructions`";

        KeyUnknown { key: String, suggestion: Suggestion } = Error "key.unknown",
            "unknown key `{key}`",
            fix: "{suggestion}";
        KeyElsewhere { key: String, places: String } = Error "key.unknown",
            "`{key}` does not belong at the top",
            fix: "write it as {places}";
        KeyOfTop { key: String } = Error "key.unknown",
            "`{key}` does not belong here",
            fix: "move it to the top of the file";
        KeyWish { key: String, instead: &'static str } = Error "key.unknown",
            "there is no key `{key}`",
            fix: "{instead}";
        KeyWithoutColon { key: String } = Error "key.unknown",
            "there is no colon after `{key}`",
            fix: "write `{key}: …`";
        KeyDuplicate { key: String } = Error "key.double",
            "`{key}` is written twice",
            fix: "keep one of the two";
        KeyInvisible { key: String, found: String } = Error "key.invisible",
            "the key `{key}` contains an invisible character, {found}",
            fix: "delete the character: most editors can show invisible characters";
        KeyReserved { key: &'static str } = Error "not_yet",
            "`{key}` is reserved for a later version",
            fix: "remove it";

        Type { key: String, expected: &'static str, found: &'static str } = Error "type",
            "`{key}` must be {expected}, not {found}";
        NotMap { key: String, found: &'static str } = Error "type.map",
            "`{key}` must be a map, not {found}",
            fix: "write keys and their values below it, or in {{ … }}";
        NotList { key: String, found: &'static str } = Error "type.list",
            "`{key}` must be a list, not {found}",
            fix: "write `{key}: [a, b]`";
        DashWithoutSpace { key: String } = Error "type.list",
            "`{key}` must be a list, not a text that starts with a dash",
            fix: "put a space after the dash";
        NotBool { key: String, value: String } = Error "type.bool",
            "`{key}` must be true or false, not `{value}`",
            fix: "write `true` or `false`, without quotes";
        NotNumber { key: String, value: String, least: String, most: String } = Error "type.number",
            "`{key}` must be a number, not `{value}`",
            fix: "write a number from {least} to {most} without quotes, with a decimal point if needed";
        NotWhole { key: String, value: String } = Error "type.number",
            "`{key}` must be a whole number, not `{value}`",
            fix: "write it without a decimal point";
        NotDuration { key: String, value: String } = Error "type.duration",
            "`{key}` must be a duration, not `{value}`",
            fix: "write a number with a unit, such as `500ms`, `60s`, `30m`, `1h30m` or `30d`";
        Range { key: String, value: String, least: String, most: String } = Error "range",
            "`{key}` must be from {least} to {most}, not `{value}`";
        Word { key: String, value: String, suggestion: Suggestion } = Error "word",
            "`{key}` cannot be `{value}`",
            fix: "{suggestion}";
        Name { key: String, value: String } = Error "type.names",
            "`{key}` must be a list of names, and `{value}` is not a name",
            fix: "write `{key}: [a, b]`; put a name that looks like a number in quotes";
        AllowEvery { value: String } = Error "type.names",
            "`allow` must be a list of names, not `{value}`",
            fix: "remove `allow` to allow every tool, or write `allow: []` to allow none";

        NumberInvalid { value: String, why: String } = Error "number.invalid",
            "`{value}` is not a phone number: {why}",
            fix: "write a plus, the country code and the number in straight quotes: \"+1555…\"";
        NumberDuplicate { value: String } = Error "number.double",
            "`{value}` is listed twice",
            fix: "keep one of the two";
        NumberTaken { value: String } = Error "number.taken",
            "another assistant already answers `{value}`",
            fix: "remove it from one of the files, or give each assistant its own number";
        DialAnswered { value: String, assistant: String } = Error "number.loop",
            "`{value}` is answered by the assistant `{assistant}`, so the call would come back here",
            fix: "write the number of a person's phone";
        TransferToItself { value: String } = Error "number.loop",
            "`{value}` is answered by this assistant itself, so a transferred call would come back to it",
            fix: "write the number of a person's phone";
        TransferToAssistant { value: String, assistant: String } = Warning "number.transfer",
            "`{value}` is answered by the assistant `{assistant}`: the transfer would be a second call, paid twice, in \
             which the first is not known",
            fix: "ignore this if that is meant";
        TextToAssistant { value: String, assistant: String } = Error "number.loop",
            "`{value}` is answered by the assistant `{assistant}`, so nobody would read a text message to it",
            fix: "write the number of a person's phone";
        NumberWithoutCountry { value: String } = Warning "number.doubt",
            "`{value}` does not start with a country code that exists",
            fix: "check the digits after the plus";
        NumberUnlikely { value: String, code: u16 } = Warning "number.doubt",
            "`{value}` does not look like a number with the country code +{code}",
            fix: "count the digits: one may be wrong, missing or too many";

        InstructionsMissing = Error "instructions.missing",
            "there are no `instructions`",
            fix: "write what the assistant is for, as `instructions: |` and a text";
        TailLost { key: String } = Warning "text.comment",
            "`{key}` ends before this: YAML takes ` #` and the rest of the line for a comment",
            fix: "put the text in quotes; before a real comment write two spaces, and one after its `#`";
        LanguageInvalid { value: String, example: &'static str } = Error "language.invalid",
            "`{value}` is not a language tag",
            fix: "write it like `{example}`";
        LanguageUnknown { value: String, example: &'static str } = Error "language.unknown",
            "`{value}` contains a code of no language or country",
            fix: "write it like `{example}`";
        LanguagesWithout { language: String } = Error "languages.own",
            "`languages` does not have `{language}`, the assistant's `language`",
            fix: "add it";
        VocabularyLong { most: usize, characters: usize } = Error "vocabulary.long",
            "`vocabulary` has at most {most} entries of {characters} characters",
            fix: "leave out what a model knows anyway";
        LanguageOfSay { value: String, example: &'static str } = Error "language.say",
            "Twilio's voice does not speak `{value}`",
            fix: "write a language that it speaks, such as `{example}`: docs/assistants.md lists them under Languages";
        LanguageUnspoken { value: String, locale: &'static str, keys: String, written: String } = Warning "language.unspoken",
            "Twilio's voice does not speak `{value}`, so it reads {keys} as `{locale}`",
            fix: "if that is right, write `{locale}` in {written}";
        LanguageUnwritten { language: String, keys: String } = Warning "language.sentences",
            "there are no prepared sentences in `{language}`, so Twilio's voice speaks English",
            fix: "write {keys}";
        TimezoneUnknown { name: String, example: String } = Error "timezone.unknown",
            "there is no time zone `{name}`",
            fix: "write a name such as `{example}`";
        VariableTaken { name: String } = Error "variable.taken",
            "the name `{name}` already means something in templates",
            fix: "give the variable another name";
        VariableName { name: String } = Error "variable.name",
            "`{name}` cannot be the name of a variable",
            fix: "use letters, digits and _, such as `opening_hours`";
        FragmentUnknown { name: String, suggestion: Suggestion } = Error "fragment.unknown",
            "there is no fragment `{name}` in the folder's `fragments`",
            fix: "{suggestion}";

        ProviderUnknown { name: String, suggestion: Suggestion } = Error "provider.unknown",
            "there is no provider `{name}`",
            fix: "{suggestion}";
        ProviderKeyMissing { assistant: String, provider: String } = Error "provider.key",
            "the assistant `{assistant}` uses the provider `{provider}`, which has no key",
            fix: "set OPENAI_API_KEY for `openai` or the variable in the provider's `key`, or name another `provider`";
        FallbackEmpty = Error "fallback.provider",
            "this fallback names no provider",
            fix: "write `provider: …`";
        FallbackMost { most: usize } = Error "fallback.most",
            "there are more than {most} fallbacks",
            fix: "keep the best {most}";
        FallbackOwn { name: String } = Warning "fallback.same",
            "`{name}` is what the assistant uses anyway, so it is ignored as a fallback",
            fix: "name another provider or model, such as `{name}/MODEL`";
        FallbackDuplicate { name: String } = Warning "fallback.same",
            "the fallback `{name}` is listed twice",
            fix: "keep one of the two";
        FallbackVoice { provider: String, voice: String, own: String } = Warning "fallback.voice",
            "`{provider}` has no voice `{voice}`, so callers hear `{own}` there",
            fix: "choose one: `{{ provider: {provider}, voice: {own} }}`";
        FallbackWithout { provider: String, keys: String } = Note "fallback.without",
            "the fallback `{provider}` does not take {keys}",
            effect: "they are left out there";
        ModelInvalid { model: String } = Error "model.invalid",
            "`{model}` cannot be the name of a model";
        ModelUnknown { model: String, provider: String, suggestion: Suggestion } = Warning "model.unknown",
            "`{model}` is not a known model of `{provider}`",
            fix: "{suggestion}";
        ModelShutdown { model: String, day: String, next: String } = Warning "model.shutdown",
            "`{model}` will be shut down on {day}",
            fix: "use `{next}`";
        VoiceUnknown { voice: String, provider: String, suggestion: Suggestion } = Error "voice.unknown",
            "`{provider}` has no voice `{voice}`",
            fix: "{suggestion}";
        TranscriberUnknown { model: String, provider: String, suggestion: Suggestion } = Warning "transcription.unknown",
            "`{model}` is not a known transcription model of `{provider}`",
            fix: "{suggestion}";
        TemperatureUnused { provider: String } = Warning "temperature.no_effect",
            "`temperature` has no effect: `{provider}` does not take it",
            fix: "remove it";
        SpeedUnused { provider: String } = Warning "speed.no_effect",
            "`speed` has no effect: `{provider}` does not take it",
            fix: "remove it";
        ReasoningUnused = Warning "reasoning.no_effect",
            "`reasoning` has no effect: this model does not take it",
            fix: "remove it, or use a model that reasons";
        TranscriptionUnused { provider: String } = Warning "transcription.no_effect",
            "`transcription` has no effect: `{provider}` transcribes in its own way",
            fix: "remove it";

        RecordFlag { value: String, instead: &'static str } = Error "record.map",
            "`record` must be a map, not `{value}`",
            fix: "write what is kept of a call, such as `record: {{ {instead} }}`";
        RecordWithoutNotice = Warning "record.notice",
            "calls are recorded, and callers are not told",
            fix: "write `recording_notice: \"This call is recorded.\"`, in the callers' language";
        NoticeUnused = Warning "record.notice",
            "`recording_notice` is not said: `record.audio` is false",
            fix: "write `record: {{ audio: true }}`, or remove the notice";
        TranscriptUnused = Warning "record.transcript",
            "there is no transcript to keep: `transcription` is `none`",
            effect: "the record contains the assistant's words only",
            fix: "name a transcription model, or write `transcript: false`";

        GreetingInvalid { error: String } = Error "greeting.wav",
            "{error}";
        GreetingUnknown { name: String, suggestion: Suggestion } = Error "greeting.unknown",
            "there is no recording `{name}` in the folder's `greetings`",
            fix: "{suggestion}";
        HoldUnknown { name: String, suggestion: Suggestion } = Error "hold.unknown",
            "`hold` is `tone`, `none` or a recording in the folder's `sounds`, and there is no `{name}`",
            fix: "{suggestion}";
        PlayUnused = Error "greeting.play",
            "`play` has no effect if the caller speaks first",
            fix: "write `first: assistant`, or remove `play`";
        SayMissing = Warning "greeting.say",
            "the assistant does not know what the recorded greeting says",
            fix: "write its words in `say`";
        SayUnused = Warning "greeting.say",
            "`say` has no effect if the caller speaks first",
            fix: "write `first: assistant`, or remove `say`";
        SoundInvalid { error: String } = Error "sound.wav",
            "{error}";
        SoundUnknown { suggestion: Suggestion } = Warning "sound.unknown",
            "this recording belongs to no prepared line",
            fix: "name it after a line, such as moment.wav, or after an assistant and a line, such as clinic-moment.wav; {suggestion}";
        SoundTemplate { key: String } = Error "sound.template",
            "`{key}` cannot contain a template: it is the same in every call",
            fix: "write the sentence out";
        SoundLong { key: String, most: usize } = Error "sound.long",
            "`{key}` has more than {most} characters",
            fix: "write one short sentence";
        DetectionUnsupported { provider: String, detection: &'static str, other: &'static str } = Error "turns.detection",
            "`{provider}` does not support `detection: {detection}`",
            fix: "write `detection: {other}`, or remove it";
        PreparedUnused = Warning "greeting.no_effect",
            "`prepared` has an effect only with `say`, without `play`, where the assistant speaks first",
            fix: "remove it";
        PreparedVaries { name: &'static str } = Error "greeting.prepared",
            "a prepared greeting is the same in every call, and `{name}` is not",
            fix: "leave `{name}` out of `say`, or remove `prepared`";
        ConfirmedUnsupported { provider: String } = Error "turns.confirmed",
            "`{provider}` does not leave turns to us, so interruptions cannot be confirmed",
            fix: "write `interruptions: immediate`";
        TurnsUnused { key: &'static str, detection: &'static str } = Warning "turns.no_effect",
            "`{key}` has an effect only with `detection: {detection}`",
            fix: "remove it, or write `detection: {detection}`";
        NoiseReductionUnused { provider: String } = Warning "turns.no_effect",
            "`noise_reduction` has no effect: `{provider}` does not take it",
            fix: "remove it";
        LimitExceeds { key: &'static str, other: &'static str } = Warning "limits.no_effect",
            "`{key}` has no effect: it is more than `{other}`",
            fix: "write less than `{other}`";
        WithheldUnused = Warning "limits.no_effect",
            "`withheld` has no effect without `per_hour` or `per_day`",
            fix: "write one of them, or remove it";
        BlockInvalid { value: String } = Error "block.invalid",
            "`{value}` cannot be blocked",
            fix: "write a number (\"+1555…\"), the beginning of numbers (\"+1900*\"), or `withheld`";
        SessionShorter { provider: String, session: String, most: String } = Warning "limits.session",
            "`{provider}` ends every session after {session}, and the call ends with it",
            fix: "write at most `{most}`";
    }
}
