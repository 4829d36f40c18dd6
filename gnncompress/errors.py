"""What the package raises on bad input: one family, one line of text each, one exit code each."""


class GnncompressError(Exception):
    """Anything the package refuses; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class UsageError(GnncompressError):
    """An option, argument or name that cannot be used."""

    exit_code = 2


class ParameterError(UsageError):
    """A parameter with a value that it cannot have; a command line says its flag in place of its name."""

    def __init__(self, parameter: str, value: object, reason: str) -> None:
        super().__init__(parameter, value, reason)
        self.parameter, self.value, self.reason = parameter, value, reason

    def told(self, name: str) -> str:
        """Return the message with ``name`` for the parameter."""
        return f"{name} {self.value}: {self.reason}" if str(self.value) else f"{name}: {self.reason}"

    def __str__(self) -> str:
        return self.told(self.parameter)


class DatasetError(GnncompressError):
    """A data set that is missing, damaged or not what its declaration says."""


class TaskError(GnncompressError):
    """Data, split and model that do not fit together, such as a class that no training item has."""


class TrainingError(GnncompressError):
    """A training that cannot go on, such as a loss that is not finite."""


class PruningError(GnncompressError):
    """A model or a sparsity that cannot be pruned as asked."""


class QuantizationError(GnncompressError):
    """A model or its values that cannot be quantized as asked; the text names the layer."""


class ExecutionError(GnncompressError):
    """Input that a program of whole numbers cannot be run on."""


class CheckpointError(GnncompressError):
    """A checkpoint file that cannot be read or written; the text names the file."""


class MeasurementError(GnncompressError):
    """A measurement that could not be carried out."""


class CommandError(GnncompressError):
    """A command that cannot be run; the exit code is the one that a shell has for it."""

    def __init__(self, message: str, exit_code: int = 127) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ResultsError(GnncompressError):
    """A runs folder or results.csv that cannot be used; the text names the file."""
