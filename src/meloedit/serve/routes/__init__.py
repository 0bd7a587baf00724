"""The endpoints by topic; each file has one ``APIRouter``."""
