package awsfake

import (
	"time"

	"originchain/test/awsfake/model"
)

// kept is a parameter of Systems Manager.
type kept struct {
	value   string
	version int64
	changed time.Time
}

// Parameter makes a parameter of type String, or gives it another value.
func (s *SSM) Parameter(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parameters[name] = kept{value, s.parameters[name].version + 1, time.Now().UTC()}
}

func (s *SSM) getParameter(in model.Struct) (model.Struct, error) {
	name := text(in, "Name")
	p, ok := s.parameters[name]
	if !ok {
		return nil, refuse("ParameterNotFound", "")
	}
	return model.Struct{"Parameter": model.Struct{
		"Name": name, "Type": "String", "Value": p.value, "Version": p.version, "LastModifiedDate": p.changed,
		"ARN": "arn:aws:ssm:" + Region + ":" + Account + ":parameter" + name, "DataType": "text",
	}}, nil
}
