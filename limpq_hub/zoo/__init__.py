"""SHARE the results: artifact folders, the catalog of names, and loading.

An entry holds what was learned of one network, in a sealed folder: indicators, joint weights, fine-tuned policies,
measured figures, and a `config.json` with the sha256 of each file. `limpq_hub.zoo.catalog` finds it by name:

- `resnet18`, `efficientnet_lite0`, `mobilenetv2_100`: bundled with the package.
- `local-dir:out/my-entry`: a folder, as the trainings and `publish` write it.
- `hf-hub:owner/name`, `hf-hub:owner/name@revision`: a repository (`limpq_hub.zoo.hub`).

`limpq_hub.zoo.planning` searches by name, without torch. `limpq_hub.zoo.loading` makes the network: weights that were
fine-tuned for exactly the policy where the entry has them, else the jointly trained weights set to it, with a warning.
`limpq_hub.zoo.own_network` takes a module of your own to an entry, with an example of the whole way.
"""
