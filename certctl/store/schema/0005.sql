-- What the operator wished when a domain was removed, until that is done: a run that is killed is finished by the next.
-- NULL is done, or was wished by a certctl that did not write it down.
ALTER TABLE domain ADD COLUMN removal TEXT;
