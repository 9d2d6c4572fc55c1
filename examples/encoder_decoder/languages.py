"""Names of languages and countries from English into another language, character by character. Data: pycountry."""

import random
from gettext import GNUTranslations

import minigrad as mg
from examples.common import data_file, options, report, show
from examples.encoder_decoder._draw import draw_attention
from examples.encoder_decoder._errors import edit_distance, error_rates
from examples.encoder_decoder._model import END, EncoderDecoder, shifted
from minigrad.train import Batches, Cosine, Trainer

DOMAINS = "iso3166-1", "iso3166-3", "iso639-3", "iso639-5"  # countries, former ones, languages, their families
UNKNOWN = 1  # the number of a character that training never shows


def read_names(language, longest):
    """(English, translated) names of at most so many characters, in groups of those with the same English words.

    Many a name is there twice, as "Tidaá Mixtec" and as "Mixtec, Tidaá"; the split keeps a group together.
    """
    names = {}
    for domain in DOMAINS:
        with data_file("pycountry", f"locales/{language}/LC_MESSAGES/{domain}.mo").open("rb") as file:
            names |= GNUTranslations(file)._catalog  # all that the file translates; gettext has no public name for it
    groups = {}
    for name, translated in sorted(names.items()):
        if name and max(len(name), len(translated)) <= longest:
            words = tuple(sorted(name.lower().replace(",", "").split()))
            groups.setdefault(words, []).append((name, translated))
    return list(groups.values())


def main():
    args = options(__doc__, epochs=5, cell="gru", language="fr", hidden_size=128, beam=3, batch_size=32)
    longest = 30
    if args.small:  # short names into another script, where it takes less to be better than copying
        longest, args.language, args.epochs, args.hidden_size = 12, "uk", 2, 64
    groups = read_names(args.language, longest)
    random.Random(0).shuffle(groups)  # the same split whatever the seed
    parts = groups[:1000], groups[1000:1500], groups[1500:]
    test, held_out, train = ([pair for group in part for pair in group] for part in parts)
    characters = ["", "?", *sorted({character for pair in train for name in pair for character in name})]
    numbers = {character: number for number, character in enumerate(characters)}

    def coded(name):
        return [numbers.get(character, UNKNOWN) for character in name]

    def batches(pairs, size):
        return Batches([(coded(name), [*coded(translated), END]) for name, translated in pairs], size)

    def cut(classes):
        """The sequences in classes (T, B), each up to its END."""
        return [column[: [*column, END].index(END)] for column in classes.numpy().T.tolist()]

    model = EncoderDecoder(args.cell, len(characters), len(characters), 64, args.hidden_size)

    def step(model, batch):
        name, translated = batch
        scores = model(name, batch.lengths[0], shifted(translated))
        loss = mg.loss("cross_entropy")(scores, translated, lengths=batch.lengths[1])
        if model.training:
            return loss
        found, wanted = cut(model.decode(name, batch.lengths[0], longest)), cut(translated)
        return loss, {"character_errors": (sum(map(edit_distance, found, wanted)), sum(map(len, wanted)))}

    data = batches(train, args.batch_size)
    optimizer = mg.optimizer("adam", model.parameters(), lr=3e-3)
    trainer = Trainer(model, optimizer, step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, batches(held_out, 500), epochs=args.epochs, monitor="character_errors", patience=args.epochs)

    model.eval()
    found = {}
    for batch in batches(test, 250).batches():
        decoded = cut(model.decode(batch[0], batch.lengths[0], longest, args.beam))
        found |= zip(batch.indices, decoded, strict=True)
    written = ["".join(characters[c] for c in found[i]) for i in range(len(test))]
    changed = [i for i, (name, translated) in enumerate(test) if name != translated]
    rows = []
    for title, part in ("all", range(len(test))), ("those that change", changed):
        names, wanted = zip(*(test[i] for i in part), strict=True)
        for method, translated in ("copied", names), ("this model", [written[i] for i in part]):
            characters_wrong, names_wrong = error_rates(translated, wanted)
            rows.append((f"{title} ({len(part)})", method, characters_wrong, 100 - names_wrong))
    show(
        f"{len(test)} held-out names",
        ["names", "", "wrong characters", "exact matches"],
        [(title, method, f"{wrong:.2f} %", f"{exact:.2f} %") for title, method, wrong, exact in rows],
    )
    show(
        "samples", ["English", "this model", "pycountry"], [(test[i][0], written[i], test[i][1]) for i in changed[:12]]
    )
    turned = [i for i in changed if test[i][0][0] != test[i][1][0]]  # often the words' order changes
    drawn = sorted(turned, key=lambda i: abs(len(test[i][0]) - 18))[:4]
    examples = [(test[i][0], coded(test[i][0]), written[i], found[i]) for i in drawn]
    draw_attention(model, examples, args.out / "attention.png")
    report(args.out, "character error rate in %", rows[1][2], rows[0][2], "copying the name", lower_is_better=True)


if __name__ == "__main__":
    main()
