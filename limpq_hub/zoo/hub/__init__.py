"""Everything that talks to a Hugging Face Hub.

One repository holds one network: `config.json` (architecture, data set, input size, preprocessing, sha256 and size of
each file), indicators, joint weights, fine-tuned policies, measured figures, and a card made of nothing else. Nothing
of ours is on the Hub: entries are there under the name of whoever publishes them.

## From the Hub

```bash
limpq search hf-hub:you/resnet18-limpq --bitops 3G      # fetches config.json and indicators.json, no weights
limpq pull hf-hub:you/resnet18-limpq@v1                 # every file, for use offline (HF_HUB_OFFLINE=1)
limpq list --hub you
```

`limpq_hub.load("hf-hub:you/resnet18-limpq@v1", bitops="3G")` resolves the revision once and takes every file from that
commit. Each file is checked against its sha256 at every load, cached ones too, and fetched anew once if it is damaged.
Nothing in a repository is executed: pickles are refused by name, and the architecture must be one of timm's. An error
names repository and revision, the file where one is damaged, and what to do next.

`token=`, `cache_dir=` and `revision=` are arguments of `limpq_hub.load`; `limpq_hub.search`, `limpq_hub.frontier` and
`limpq_hub.baselines` take `hf-hub:owner/name@revision`, and the variables HF_TOKEN and HF_HUB_CACHE. A bare name means
a bundled entry; where LIMPQ_HUB_OWNER=you is set, a name that is not bundled means `you/<name>-limpq`.

## To the Hub

```bash
limpq push local-dir:out/my-entry you/resnet18-limpq    # verified, one commit, a tag, read back and compared
limpq push local-dir:out/my-entry you/resnet18-limpq --dry-run out/what-would-be-sent
```

The trainings publish in the same way, `publish` with `--repo-id`, `indicators` and `finetune` with `--push-to-hub`; the
last two check name, token and rights before they start. A repository that holds something else than an entry of the
same network is left as it is, and files in it that belong to no entry stay. A push is refused if the branch moved
meanwhile; `finetune` then reads the repository again, so that no policy of somebody else is lost. The card names data
set, split, number of images and seed beside each figure, and a licence only where `--license` gives one, or the card
that it replaces or the one beside the entry states it; where these two state different ones, `--license` is asked for.
"""
